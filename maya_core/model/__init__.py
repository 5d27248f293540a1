"""What Maya is: three parts composed, and what pictures and messages become for them."""
