"""The tests; what needs Debian or npm packages is in `system`."""
