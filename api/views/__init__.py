"""What is shown, found once for JSON and for pages: from a connection and parameters to frozen values."""
