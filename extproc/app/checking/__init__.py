"""What `extproc check` does: files that people write, told apart by what is in them, and everything that is wrong with each.

Nothing is asked over a network and nothing is started. Files that a config names (certificates, endpoints) are not read, as
they are where the config will run.
"""

from extproc.app.checking.files import check_file, check_text
from extproc.app.checking.found import Part, Report
from extproc.app.checking.schema import picker_schema

__all__ = ["Part", "Report", "check_file", "check_text", "picker_schema"]
