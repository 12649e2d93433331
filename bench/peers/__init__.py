"""The others: own code, written as their documentation recommends."""
