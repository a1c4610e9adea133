"""What the tests stand on: servers and processes to start, a proxy, a client, waiting."""
