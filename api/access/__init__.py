"""Who comes in: keys, sessions, limits, and by which name the server is called. `api.auth` says what they may do."""
