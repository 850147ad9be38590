"""What a server without Docker gets: deploy/systemd and scripts/install. `in_container` tries all of it."""
