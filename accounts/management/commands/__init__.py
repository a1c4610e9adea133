"""Commands: `auth_worker`, `token`, `api_token`."""
