"""One loss a file, named after it; `objective` weighs and sums them."""
