"""The documents: their generated tables and their vocabulary.

generate       `scripts/docs`: write each table between its marks
configuration  the settings, from shared/settings.py and .env.example
metrics        the metrics, as daemon and API export them
http_api       the endpoints, from the operations of the API
command_line   the commands, from their argument parsers and the first comment of each script
markdown       tables, and the marks around a generated part
vocabulary     the banned words and the limits of WRITING, with their exceptions
"""
