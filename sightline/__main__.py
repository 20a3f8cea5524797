"""`python -m sightline`, which torchrun can start: `torchrun --nproc_per_node 2 -m sightline train RECIPE`."""

from sightline.cli import main

if __name__ == "__main__":
    main()
