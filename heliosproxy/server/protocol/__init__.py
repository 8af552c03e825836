"""The PostgreSQL protocol, version 3, as bytes: nothing here reads or writes a socket."""
