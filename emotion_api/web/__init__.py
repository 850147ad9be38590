"""HTTP: request -> authentication -> parameters -> reader -> response. The only place that imports Flask.

views       the API's addresses: parse, call, answer
parameters  query strings -> typed requests. Pure
auth        bearer tokens
errors      every error as RFC 9457 problem details
headers     CORS, security and caching headers
openapi     the OpenAPI document, Swagger UI and ReDoc, without the internet
asyncapi    what devices publish: AsyncAPI and JSON Schema
pages       the live page
files       files of the package as responses
"""
