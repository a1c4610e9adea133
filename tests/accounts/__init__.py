"""Tests of the backend side: rules, credentials, admin, commands and the auth worker."""
