"""The MQTT session: socket -> PUBLISH packets -> messages, and acks and replies back. The only place that imports paho.

subscriber      connects, subscribes, receives, acknowledges, replies
publish_packet  decodes a PUBLISH packet as far as the daemon needs it. Pure
"""
