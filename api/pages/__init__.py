"""Pages: HTML that works without JavaScript, from templates and one style sheet."""
