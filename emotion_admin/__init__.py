"""What the operator does by hand: scripts/device, token, tls, backup and restore call it where the data lies.

    secrets folder + database -> what was asked for, on standard output

secrets      where passwords, tokens and the certificate lie, and what is made at the first start
logins       Mosquitto's password file
devices      the names in the table `device`, and who has a login
snippet      what a new device has to be told
tokens       the API's bearer tokens
certificate  the broker's certificate and its key
backup       a copy of the database and of all secrets, and the way back
"""
