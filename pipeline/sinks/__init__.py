"""Where the results of each step go: one file per destination behind the protocol ``pipeline.sinks.base.Sink``."""
