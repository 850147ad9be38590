"""The MQTT session: socket -> PUBLISH packets -> messages, and acks and replies back. The only place that imports paho.

subscriber      connects, subscribes, receives, acknowledges, replies
client          paho's client, which reads many packets at once and sends all PUBACKs of a group at once
publish_packet  finds packets, and decodes PUBLISH as far as the daemon needs it. Pure
"""
