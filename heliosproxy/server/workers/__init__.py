"""Several processes on one address, under a supervisor that starts them, heals them and lets them talk."""
