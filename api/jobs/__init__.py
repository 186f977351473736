"""Jobs over the network: what is asked of them, what may not be named, what is done, and who listens."""
