"""Whole models of other libraries: their configuration and their arrays, in and out."""
