"""The operator's commands: `python -m emotion_admin COMMAND`, which the scripts in scripts/ call.

__main__      the arguments of all commands, and their exit codes
commands      runs each command and prints its result
doctor/       finds faults and gives advice; one file a subject
person        erases a person, or exports the stored data of one
dead_letters  lists, replays and deletes invalid messages
backup        saves and restores database and secrets
copy_database  copies all data between SQLite and PostgreSQL
devices, logins, tokens, certificates, secrets  the secrets of devices, daemon and API clients
roles         what each login may do at the broker
broker_state  sets a damaged mosquitto.db aside before the broker starts
device_logins  the devices' logins at each kind of broker; rabbitmq, rabbitmq_rights  RabbitMQ's
broker        changes logins in the running broker, and ends what a removed device has there
snippet       what `device add` prints
documents     the pages of docs/ and their titles
addresses     where daemon and API answer
health        asks a service whether it works, for health checks
files         writes files that keep their owner
errors        the error that ends a command
"""
