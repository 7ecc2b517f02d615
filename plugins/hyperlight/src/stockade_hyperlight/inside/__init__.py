"""What runs in the guest, sent there as text."""
