"""What it means: places, nights, money and the people who ask."""
