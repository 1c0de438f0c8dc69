"""Compressed networks on the device, side by side with the network that they were made of."""
