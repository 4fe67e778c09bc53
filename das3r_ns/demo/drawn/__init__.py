"""What drawn clips are made of: places, cameras, movers and what a camera does to the picture, each by a seed."""
