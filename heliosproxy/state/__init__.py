"""What a session carries from one server connection to the next."""
