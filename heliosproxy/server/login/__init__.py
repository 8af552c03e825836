"""Who may log in to the proxy, and how the proxy logs in to servers. Nothing here reads or writes a socket."""
