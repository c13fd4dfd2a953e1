"""Which landmark is where, for both landmark back ends.

*Left* and *right* are the subject's own: the left eye is on the right of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FaceTopology:
    """Indices into an array of landmarks [count, 3]. Rings are closed polygons, their points in order."""

    name: str
    count: int
    outer_lips: tuple[int, ...]
    """Ring: the border of the red of the lips."""
    inner_lips: tuple[int, ...]
    """Ring: what lies inside it is the opening of the mouth."""
    upper_inner_lip: int
    """Middle of the upper lip's inner edge."""
    lower_inner_lip: int
    """Middle of the lower lip's inner edge."""
    left_eye: tuple[int, ...]
    """Ring: the edges of the lids."""
    right_eye: tuple[int, ...]
    """Ring: the edges of the lids."""
    left_outer_eye_corner: int
    right_outer_eye_corner: int
    left_brow: tuple[int, ...]
    right_brow: tuple[int, ...]
    left_iris: tuple[int, ...]
    """Centre first, then four points of the rim; empty if the back end has none."""
    right_iris: tuple[int, ...]
    """As `left_iris`."""
    chin: int
    """Lowest point of the chin."""
    jaw: tuple[int, ...]
    """Chin, jaw line, cheeks beside the mouth and the upper lip's skin: what moves with speech besides the lips."""
    face_oval: tuple[int, ...]
    """Ring around the face."""
    mouth_68: tuple[int, ...]
    """The mouth of the 68-point mark-up, its points 48 to 67 in order: twelve on the outer border from the right corner
    over the upper lip, eight on the inner one. Where a back end has another mark-up, the points nearest in meaning."""
    stable: tuple[int, ...]
    """Points that hardly move with speech and expression: nose bridge, forehead, temples, eye corners."""

    @property
    def lower_face(self) -> tuple[int, ...]:
        """What speech moves."""
        return self.lips + self.jaw

    @property
    def upper_face(self) -> tuple[int, ...]:
        """Eyes, brows and gaze: what speech does not move."""
        return (
            *self.left_eye, *self.right_eye, *self.left_brow, *self.right_brow, *self.left_iris, *self.right_iris
        )

    @property
    def lips(self) -> tuple[int, ...]:
        """All lip landmarks (40 of MediaPipe's)."""
        return self.outer_lips + self.inner_lips


MEDIAPIPE_478 = FaceTopology(
    name="mediapipe",
    count=478,
    outer_lips=(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    inner_lips=(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
    upper_inner_lip=13,
    lower_inner_lip=14,
    left_eye=(263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    right_eye=(33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    left_outer_eye_corner=263,
    right_outer_eye_corner=33,
    left_brow=(300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    right_brow=(70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    left_iris=(473, 474, 475, 476, 477),
    right_iris=(468, 469, 470, 471, 472),
    chin=152,
    jaw=(
        *(152, 148, 377, 176, 400, 149, 378, 150, 379, 136, 365, 172, 397, 58, 288),  # jaw line
        *(199, 200, 18, 83, 313, 182, 406, 106, 335, 204, 424, 43, 273, 202, 422),  # chin
        *(57, 287, 212, 432, 216, 436, 205, 425, 206, 426, 50, 280, 187, 411, 207, 427, 214, 434),  # cheeks
        *(2, 164, 97, 326),  # between nose and mouth
    ),
    face_oval=(
        *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
        *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    ),
    mouth_68=(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
    stable=(
        *(168, 6, 197, 195),  # nose bridge
        *(10, 151, 9, 109, 338, 67, 297),  # forehead
        *(162, 127, 389, 356),  # temples
        *(33, 133, 362, 263),  # eye corners
    ),
)

IBUG_68 = FaceTopology(
    name="face-alignment",
    count=68,
    outer_lips=tuple(range(48, 60)),
    inner_lips=tuple(range(60, 68)),
    upper_inner_lip=62,
    lower_inner_lip=66,
    left_eye=tuple(range(42, 48)),
    right_eye=tuple(range(36, 42)),
    left_outer_eye_corner=45,
    right_outer_eye_corner=36,
    left_brow=tuple(range(22, 27)),
    right_brow=tuple(range(17, 22)),
    left_iris=(),
    right_iris=(),
    chin=8,
    jaw=(*range(3, 14), 31, 33, 35),
    face_oval=(*range(17), *range(26, 16, -1)),
    mouth_68=tuple(range(48, 68)),
    stable=(27, 28, 29, 30, 0, 16, 36, 39, 42, 45),  # this mark-up has no forehead; 0 and 16 are the temples
)
