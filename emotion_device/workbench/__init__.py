"""Commands for the developer's machine. They use the server's packages, and the device's distribution leaves them out.

simulator   people who come, change their mood and leave, before devices that do not exist. Pure
simulation  python -m emotion_device simulate
validate    python -m emotion_device validate: check files as the daemon would
"""
