"""Sizing physics: how much GPU capacity a stream of LLM requests needs, and how sure that is.

A library of its own: no I/O, no clock, no import of the pipeline.
"""
