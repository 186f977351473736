"""The models: what they are (`spec`, `registry`, `bundled`, `weights`: without torch), how one is built and added
(`networks`, `sources`, `adding`), and how they run (`load`; `openvino_cpu` and `openvino_kept` without torch)."""
