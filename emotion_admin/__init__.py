"""What an operator does by hand: `python -m emotion_admin COMMAND`, which the scripts in scripts/ call.

__main__      the composition root: arguments of the commands on secrets, exit codes
commands      the commands on the data: doctor, person, dead-letters
doctor/       what is wrong, and what to do about it; one file a subject
person        erases a person, or exports what is stored of one
purge         removes deleted rows from the database's files
dead_letters  lists and replays invalid messages
backup        saves and restores database and secrets
devices, logins, tokens, certificates, secrets  who may connect, and with what
snippet       what `device add` prints
health        asks a service whether it works, for health checks
retry         repeats what a lock is in the way of
files         writes files that keep their owner
errors        the error that ends a command
"""
