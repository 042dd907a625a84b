"""What is installed on this machine, what it lets a study do, and what is unsafe. Asks no Ray."""
