"""What all stages share; knows none of them."""
