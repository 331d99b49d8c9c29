from report import Report
def chart(report: Report) -> str:
    return ""
