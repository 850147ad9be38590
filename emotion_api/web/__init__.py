"""HTTP: request -> authentication -> parameters -> reader -> response. The only place that imports Flask.

views       the API's operations: parse, call, answer
parameters  query strings -> typed requests. Pure
hosts       the hosts that the API answers for
auth        bearer tokens
errors      every error as RFC 9457 problem details
headers     CORS, security and caching headers, and the duration of each request
operations  the table of the API's operations. A new operation is described here
openapi     that table as an OpenAPI document
script      joins the modules of the live page into one script
pages       the live page, Swagger UI and ReDoc; OpenAPI, AsyncAPI and JSON Schema documents
"""
