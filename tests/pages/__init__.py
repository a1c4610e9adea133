"""Tests of the pages' views, without a browser."""
