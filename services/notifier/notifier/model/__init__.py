"""What notifier decides about addresses, signatures, schedules and capacity. Pure: nothing here connects or waits."""
