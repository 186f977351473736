"""The models: what they are (`spec`, `registry`: without torch) and how they run (`torch_backend`)."""
