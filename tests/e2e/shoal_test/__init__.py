"""The end-to-end test framework: brokers, clients and tools. Nothing here knows a single test."""
