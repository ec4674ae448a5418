"""What MI-LR is compared with, and the form of it that its paper prints."""
