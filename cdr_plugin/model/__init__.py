"""The data model, in flight as well as at rest: blobs, trees and versions, in restic's form."""
