"""Keys: a program of its own that holds them, and nothing of it in the process of the web.

`service` answers on a Unix socket; `vault` (an encrypted file) or `token` (PKCS#11) holds the keys;
`ceremony` and `shares` are what officers type. The head-end speaks to the service through
`gateways/key_client.py` and imports nothing from here.
"""
