"""
Every refusal: S3's code and HTTP status, and a short message.

Clients match on the code; the messages are our words.

Source: Amazon S3 API Reference, "Error responses".
"""

from collections.abc import Mapping

_TABLE: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied"),
    "AccessForbidden": (403, "CORSResponse: This CORS request is not allowed."),
    "AuthorizationHeaderMalformed": (400, "The authorization header is malformed."),
    "AuthorizationQueryParametersError": (400, "The query parameters are malformed."),
    "BadDigest": (400, "The checksum you specified did not match what we received."),
    "BadRequest": (400, "Bad Request"),
    "BucketAlreadyOwnedByYou": (409, "You already own the bucket you named."),
    "EntityTooLarge": (400, "Your upload exceeds the maximum allowed size."),
    "EntityTooSmall": (400, "Your upload is smaller than the minimum allowed size."),
    "IllegalLocationConstraintException": (
        400,
        "That is not the region of this endpoint.",
    ),
    "IncompleteBody": (400, "You did not provide the number of bytes you specified."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id does not exist in our records."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The checksum you specified is not valid."),
    "InvalidPart": (400, "A part could not be found, or its entity tag differs."),
    "InvalidPartOrder": (400, "Parts must be listed in order by part number."),
    "InvalidPolicyDocument": (400, "The policy document of the form is not valid."),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "The request is not valid."),
    "InvalidTag": (400, "The tag provided was not a valid tag."),
    "InvalidToken": (400, "The provided token is malformed or otherwise not valid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedPOSTRequest": (400, "The body is not well-formed multipart/form-data."),
    "MalformedPolicy": (400, "The policy is not valid."),
    "MalformedXML": (400, "The XML is not well-formed or not of our schema."),
    "MaxMessageLengthExceeded": (400, "Your request was too large."),
    "MaxPostPreDataLengthExceededError": (
        400,
        "The fields before the file were too large.",
    ),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed size."),
    "MethodNotAllowed": (405, "The method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchBucketPolicy": (404, "The bucket policy does not exist"),
    "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (404, "The upload does not exist; it may have ended."),
    "NotImplemented": (501, "What you ask for is not implemented"),
    "PreconditionFailed": (412, "A pre-condition you specified did not hold"),
    "RequestTimeTooSkewed": (
        403,
        "The request time and the current time differ too much.",
    ),
    "SignatureDoesNotMatch": (
        403,
        "Our signature does not match the one you provided.",
    ),
    "XAmzContentSHA256Mismatch": (400, "The payload is not the one you signed."),
}


class S3Error(Exception):
    """
    A request that is refused.

    Attributes:
        code: S3's stable name for the reason; clients match on it.
        status: HTTP status that goes with the code.
        details: Further elements of the error document, by name.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        details: Mapping[str, str] | None = None,
    ) -> None:
        self.status, default = _TABLE[code]
        self.code = code
        self.message = message or default
        self.details = dict(details or {})
        super().__init__(f"{code}: {self.message}")
