"""Where photos come from: S3 prefixes, local folders, manifests. Each lists pages of `PhotoRef`."""
