"""The backend's side: users, access rules, tokens, and the worker that answers auth requests."""
