"""The AWS Lambda functions; standard library and boto3 only."""
