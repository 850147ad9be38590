"""A server without Docker: deploy/systemd and scripts/install. `in_container` tries all of it."""
