"""What the service is put through: overload, chaos, random bytes and idle connections, each a command."""
