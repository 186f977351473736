"""Decoding in sandboxed children: bytes from anywhere become pixels, and no photo can hurt more than itself.

`records` says what goes in and out, `pixels` is the pure decoder, `sandbox` and `child` the process around it,
`protocol` the few bytes that cross the pipe, `process` one child as its parent sees it, `pool` what callers use.
"""
