"""Tests that run in Chromium: the client's modules, the client, the pages."""
