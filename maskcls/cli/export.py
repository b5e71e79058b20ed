"""Export of a trained model for others: one ONNX file, or a folder for timm, with a model card.

maskcls export run=a-1234                                    a-1234-onnx/: raw photos in, all folds, no torch needed
maskcls export run=a-1234 precision=int8                     smaller and faster; the F1 that it loses is measured
maskcls export run=a-1234 fold=0 format=timm                 a-1234-fold0-timm/: timm.create_model("local-dir:…")
maskcls export run=a-1234 input=crops                        images that are cropped already, as with crop=face

The export is compared with torch on evaluation images before it is written. It needs: pip install 'maskcls[deploy]'
"""

from __future__ import annotations

from maskcls.cli.arguments import options_command
from maskcls.inference.export_options import ExportOptions


@options_command(ExportOptions)
def main(options: ExportOptions) -> None:
    """Export the model; heavy modules are imported here."""
    from maskcls.inference.export import export

    export(options)
