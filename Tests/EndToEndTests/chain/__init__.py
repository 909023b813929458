"""The chain that the tests pay on: a real EVM behind JSON-RPC on loopback, the contracts on it, wallets, and a facilitator."""
